"""Credit: money that a customer may use up before anything is collected, lot by lot."""
