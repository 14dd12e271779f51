"""The catalogue: tables, statements, transactions. Nothing else knows SQLAlchemy or psycopg.

One file for each noun. Functions take the caller's transaction first and never begin or end one; a statement is a
constant that has its function's name in capitals.
"""
