"""Workers killed by SIGKILL at every failpoint; the bus survives in a file, the API is the Graph simulator."""
