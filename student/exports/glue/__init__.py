"""Files that are copied as they stand into an export, beside its data; none imports rlt."""
