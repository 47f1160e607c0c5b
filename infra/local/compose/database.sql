-- The pipeline's own database, beside the emulator's. Run again it changes nothing.
IF DB_ID('pipeline') IS NULL
    CREATE DATABASE pipeline;
GO
IF (SELECT is_read_committed_snapshot_on FROM sys.databases WHERE name = 'pipeline') = 0
    ALTER DATABASE pipeline SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE;
GO
