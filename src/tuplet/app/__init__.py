"""What people meet: the command line, the report and the page."""
