"""Connections before the application: a protocol for uvicorn that bounds what each of them may cost."""
