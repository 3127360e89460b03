-- Why a target is paused, and until when it has asked to be left alone.
ALTER TABLE target ADD COLUMN paused_reason TEXT;        -- NULL where an earlier version paused it
ALTER TABLE target ADD COLUMN retry_after_until INTEGER; -- in Unix milliseconds
ALTER TABLE target ADD COLUMN retry_after_address TEXT;  -- SHA-256 of the address that asked for it
