"""What goes over the wire: values, request bodies, media types and problems."""
