"""What training adds to the REST API."""
