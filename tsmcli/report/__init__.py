"""Everything people look at: progress, tables, JSON, pictures. The only place that draws."""
