"""The HTTP side: the application, what every request goes through, bodies, and one route file a resource."""
