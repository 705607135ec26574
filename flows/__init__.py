"""What happens, in order. One flow a file; no I/O here."""
