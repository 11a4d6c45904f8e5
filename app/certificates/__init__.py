"""Supplies the certificate that the webhook serves: from files, or issued here and published in the caBundles."""
