"""The wire: documents, values, request bodies, responses, media types, content codings. Imports nothing else of app."""
