"""What people look at: progress while something runs, tables, pages, plots. It knows nothing of what it shows."""
