"""The ledger's schema, step by step, by Alembic. A version that was released is never edited: add the next."""
