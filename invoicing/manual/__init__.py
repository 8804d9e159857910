"""The second provider: customers pay our letters by bank transfer, and our own bank statement says what arrived."""
