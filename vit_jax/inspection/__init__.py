"""What can be seen: numbers about models and runs as figures."""
