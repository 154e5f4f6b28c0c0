"""The server's calls: documents, one core without input or output, blocking and awaited clients, sessions."""
