"""One tiny application a contestant; all of one framework share their routes and handlers."""
