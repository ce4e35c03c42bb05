"""What every room needs and none of them owns: errors, files, threads, processes; no models."""
