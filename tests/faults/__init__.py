"""What survives when a process dies, an answer is lost, or a server goes away: every place of it, one by one."""
