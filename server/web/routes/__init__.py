"""The HTTP side, one file a resource: each route reads the request, calls one thing of the service, and answers."""
