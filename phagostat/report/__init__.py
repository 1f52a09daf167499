"""What people look at: pictures, movies, pages, and files for other programs."""
