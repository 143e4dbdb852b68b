"""What connects pauth with other libraries; a module each, which needs its extra and is imported by who uses it."""
