"""Workers killed by SIGKILL at every failpoint; the bus and the API survive in files and in other processes."""
