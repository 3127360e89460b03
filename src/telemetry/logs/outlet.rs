//! Where log lines go, such as standard error: while it is not read, or its disk is full, lines are left
//! out and counted.
//!
//! A full pipe holds the thread that writes into it until its reader goes on. Here that would
//! be a thread of the runtime, and with it intake and deliveries.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a line waits for a reader that has kept up until then.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const NONE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// So many lines in a row have to be taken at once before one waits again: a reader that is
/// slow and does not stop is not waited for with each line.
const KEEPS_UP: u32 = 256;

/// What a pipe that is ready takes without holding its writer (`PIPE_BUF`), in bytes.
const PIECE: usize = 4096;

/// Writes each line whole or leaves it out.
#[derive(Debug)]
pub(super) struct Outlet<W> {
    writer: W,
    /// Makes the line about left-out lines. The argument is their number.
    tell: fn(u64) -> String,
    left_out: u64,
    /// Whether the last line written was broken off.
    torn: bool,
    /// Lines in a row that were taken at once, up to [`KEEPS_UP`].
    taken: u32,
}

impl<W: Write + AsFd> Outlet<W> {
    pub(super) const fn new(writer: W, tell: fn(u64) -> String) -> Self {
        Self { writer, tell, left_out: 0, torn: false, taken: KEEPS_UP }
    }

    fn line(&mut self, line: &[u8]) {
        if self.left_out > 0 {
            let told = format!("{}{}\n", if self.torn { "\n" } else { "" }, (self.tell)(self.left_out));
            if !self.put(told.as_bytes()) {
                self.left_out += 1;
                return;
            }
            (self.left_out, self.torn) = (0, false);
        }
        if !self.put(line) {
            self.left_out += 1;
        }
    }

    /// Writes `text`. Returns false if not all of it was taken.
    fn put(&mut self, text: &[u8]) -> bool {
        let mut rest = text;
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(PIECE)];
            let taken = if self.is_ready() { self.writer.write(piece) } else { Ok(0) };
            match taken {
                Ok(taken @ 1..) => rest = rest.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A reader that has gone is no trouble: there is no one to tell.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return true,
                // It was not read in time, or its disk is full, which may have room again later.
                Ok(0) | Err(_) => {
                    (self.taken, self.torn) = (0, self.torn || rest.len() < text.len());
                    return false;
                }
            }
        }
        self.taken = (self.taken + 1).min(KEEPS_UP);
        true
    }

    fn is_ready(&self) -> bool {
        let patience = if self.taken == KEEPS_UP { PATIENCE } else { NONE };
        loop {
            match poll(&mut [PollFd::new(&self.writer, PollFlags::OUT)], Some(&patience)) {
                Err(Errno::INTR) => {}
                Ok(0) => return false,
                // What cannot be asked is written to as before.
                Ok(_) | Err(_) => return true,
            }
        }
    }
}

/// Takes one line with each call, as the subscriber writes it.
impl<W: Write + AsFd> Write for Outlet<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::os::fd::BorrowedFd;

    use super::*;

    fn tell(lines: u64) -> String {
        format!("{lines} left out")
    }

    #[test]
    fn while_a_pipe_is_not_read_lines_are_left_out_whole_and_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(writer, tell);
        let line = format!("{}\n", "x".repeat(9_999));
        for _ in 0..100 {
            outlet.write_all(line.as_bytes()).unwrap();
        }
        let left_out = outlet.left_out;
        assert!((80..100).contains(&left_out), "{left_out}");

        let mut lines = BufReader::new(reader);
        let read = |lines: &mut BufReader<_>| {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            line
        };
        let whole = 100 - left_out;
        for _ in 0..whole {
            assert_eq!(read(&mut lines), line);
        }
        outlet.write_all(b"after\n").unwrap();
        drop(outlet);
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        let rest = rest.trim_start_matches('x').trim_start_matches('\n');
        assert_eq!(rest, format!("{left_out} left out\nafter\n"));
    }

    #[test]
    fn a_closed_pipe_does_not_block_the_log() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut outlet = Outlet::new(writer, tell);
        outlet.write_all(b"a line\n").unwrap();
        assert_eq!(outlet.left_out, 0);
    }

    /// A file on a disk with little room.
    struct Disk {
        room: usize,
        text: Vec<u8>,
        file: File,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(Errno::NOSPC.into());
            }
            self.room -= taken;
            self.text.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Disk {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.file.as_fd()
        }
    }

    #[test]
    fn while_the_disk_of_the_log_is_full_lines_are_left_out_and_counted() {
        let disk = Disk { room: 9, text: Vec::new(), file: tempfile::tempfile().unwrap() };
        let mut outlet = Outlet::new(disk, tell);
        for line in ["first\n", "second\n", "third\n"] {
            outlet.write_all(line.as_bytes()).unwrap();
        }
        outlet.writer.room = 100;
        outlet.write_all(b"fourth\n").unwrap();
        let text = String::from_utf8(outlet.writer.text).unwrap();
        assert_eq!(text, "first\nsec\n2 left out\nfourth\n");
    }
}
