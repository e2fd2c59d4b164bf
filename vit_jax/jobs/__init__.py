"""One file for each job; here the config meets all other parts."""
