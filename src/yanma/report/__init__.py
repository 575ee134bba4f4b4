"""What people look at: progress while something runs, tables, pages. It knows nothing of what it shows."""
