"""Connections and requests, before the application and around it."""
