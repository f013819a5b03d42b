"""What every page has around its data: filters, ranges, tables, figures, links, notices."""
