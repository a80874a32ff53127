"""The COVID-19 Radiography Database, as the download holds it."""
