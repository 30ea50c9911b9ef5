"""The REST API over projects. config/api.py puts it together with what training adds."""
