//! Frames over a stream socket, with open files beside them where both ends
//! are on one kernel; or over another stream of bytes, without.
//!
//! A frame is four bytes of length (little-endian, of what follows), one byte
//! of kind, and the payload: `J` a JSON message, `D` a channel number (four
//! bytes, little-endian) and bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No frame is larger: a peer that claims more speaks nonsense.
const MAX_FRAME: usize = 16 << 20;
/// How much is taken in at once: little at first, and more of who sends much.
const ROOM: (usize, usize) = (2 << 10, 16 << 10);
/// No message carries more open files.
const MAX_FDS: usize = 16;

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message in JSON.
    Message(Vec<u8>),
    /// Bytes of one channel.
    Data(u32, Vec<u8>),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// It is no socket: nothing goes along, and it never waits by itself.
    plain: bool,
    /// No frame that comes is larger.
    limit: usize,
    inbox: Vec<u8>,
    room: usize,
    outbox: VecDeque<u8>,
    /// Bytes of all that was ever queued that have been sent.
    sent: u64,
    /// Open files that go with what is queued, and before which byte.
    aboard: VecDeque<(u64, Vec<OwnedFd>)>,
    fds: VecDeque<OwnedFd>,
}

impl Wire {
    /// Wraps a connected stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            plain: false,
            limit: MAX_FRAME,
            inbox: Vec::new(),
            room: ROOM.0,
            outbox: VecDeque::new(),
            sent: 0,
            aboard: VecDeque::new(),
            fds: VecDeque::new(),
        }
    }

    /// Wraps a stream of bytes that is no socket (a port of a virtual machine)
    /// and that was opened not to block. No open file can be sent over it.
    pub fn over_stream(stream: OwnedFd) -> Self {
        Self {
            plain: true,
            ..Self::new(stream)
        }
    }

    /// Lets no frame come that is larger than this.
    pub(crate) fn limited(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Makes two connected ends.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self::new(a), Self::new(b)))
    }

    /// Gives up the framing and returns the socket.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends a message, waiting until it is out.
    ///
    /// # Errors
    /// The kernel's: `BrokenPipe` when the other end is gone.
    pub fn send(&mut self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = message_frame(message)?;
        self.write_all(&frame, fds)
    }

    /// Sends bytes on a channel, waiting until they are out.
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub fn send_data(&mut self, channel: u32, bytes: &[u8]) -> io::Result<()> {
        self.write_all(&data_frame(channel, bytes), &[])
    }

    /// Queues a message; [`Wire::flush`] sends it when the other end takes it.
    ///
    /// # Errors
    /// When the message cannot be written as JSON.
    pub fn queue(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.outbox.extend(message_frame(message)?);
        Ok(())
    }

    /// Queues a message that is in JSON already, with open files.
    ///
    /// # Errors
    /// `InvalidInput` when it is too large or the files are too many.
    pub(crate) fn queue_raw(&mut self, json: &[u8], files: Vec<OwnedFd>) -> io::Result<()> {
        if files.len() > MAX_FDS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut frame = vec![0, 0, 0, 0, b'J'];
        frame.extend_from_slice(json);
        let frame = close_frame(frame)?;
        if !files.is_empty() {
            let at = self.sent + self.outbox.len() as u64;
            self.aboard.push_back((at, files));
        }
        self.outbox.extend(frame);
        Ok(())
    }

    /// Queues bytes on a channel.
    pub fn queue_data(&mut self, channel: u32, bytes: &[u8]) {
        self.outbox.extend(data_frame(channel, bytes));
    }

    /// Tells whether bytes have come that were not taken yet.
    pub fn holds_input(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Tells how many bytes wait to be sent.
    pub fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Sends what is queued as far as the other end takes it now.
    ///
    /// # Errors
    /// As [`Wire::send`]; what was queued is dropped.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.send_some() {
                Ok(sent) => {
                    self.outbox.drain(..sent);
                    self.sent += sent as u64;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    self.outbox.clear();
                    self.aboard.clear();
                    return Err(e.into());
                }
            }
        }
        Ok(())
    }

    /// Sends what is queued up to the next open files, or those with what follows.
    fn send_some(&mut self) -> rustix::io::Result<usize> {
        let (first, _) = self.outbox.as_slices();
        if self.plain {
            return rustix::io::write(&self.socket, first);
        }
        let until = |at: Option<&(u64, Vec<OwnedFd>)>| {
            at.map_or(first.len(), |(at, _)| {
                first.len().min((at - self.sent) as usize)
            })
        };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let before = until(self.aboard.front());
        if before > 0 {
            return rustix::net::send(&self.socket, &first[..before], flags).map_err(gone);
        }
        let piece = &first[..until(self.aboard.get(1))];
        let (_, files) = &self.aboard[0];
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let piece = [IoSlice::new(piece)];
        let sent = sendmsg(&self.socket, &piece, &mut control, flags).map_err(gone)?;
        self.aboard.pop_front();
        Ok(sent)
    }

    fn write_all(&mut self, mut bytes: &[u8], mut fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.plain {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        while !bytes.is_empty() {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            match sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            ) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    fds = &[];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(gone(e).into()),
            }
        }
        Ok(())
    }

    /// Takes the next frame, waiting for it; `None` at the end.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` when the other end speaks nonsense.
    pub fn receive_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.pop()? {
                return Ok(Some(frame));
            }
            if self.fill(RecvFlags::empty())? == Filled::End {
                return Ok(None);
            }
        }
    }

    /// Takes the next frame if one has arrived; `Err(UnexpectedEof)` at the end.
    ///
    /// # Errors
    /// As [`Wire::receive_frame`].
    pub fn try_receive_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.pop()? {
                return Ok(Some(frame));
            }
            if !self.listen()? {
                return Ok(None);
            }
        }
    }

    /// Takes in a piece of what has come; tells whether anything had.
    ///
    /// # Errors
    /// The kernel's; `UnexpectedEof` at the end.
    pub(crate) fn listen(&mut self) -> io::Result<bool> {
        match self.fill(RecvFlags::DONTWAIT)? {
            Filled::Some => Ok(true),
            Filled::Nothing => Ok(false),
            Filled::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Takes the next message, waiting for it.
    ///
    /// # Errors
    /// As [`Wire::receive_frame`]; `UnexpectedEof` at the end.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        match self.receive_frame()? {
            Some(Frame::Message(json)) => Ok(serde_json::from_slice(&json)?),
            Some(Frame::Data(..)) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Takes the oldest open file that came with a frame.
    ///
    /// # Errors
    /// `InvalidData` when fewer came than were announced.
    pub fn take_fd(&mut self) -> io::Result<OwnedFd> {
        self.fds
            .pop_front()
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Takes all open files that have come.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.fds.drain(..).collect()
    }

    /// Takes the next frame of what was taken in.
    ///
    /// # Errors
    /// `InvalidData` when the other end speaks nonsense.
    pub(crate) fn pop(&mut self) -> io::Result<Option<Frame>> {
        let Some((length, rest)) = self.inbox.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > self.limit {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let frame = match (rest[0], &rest[1..length]) {
            (b'J', json) => Frame::Message(json.to_vec()),
            (b'D', data) => {
                let (channel, bytes) = data
                    .split_first_chunk::<4>()
                    .ok_or(io::ErrorKind::InvalidData)?;
                Frame::Data(u32::from_le_bytes(*channel), bytes.to_vec())
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        self.inbox.drain(..4 + length);
        Ok(Some(frame))
    }

    fn fill(&mut self, flags: RecvFlags) -> io::Result<Filled> {
        let old = self.inbox.len();
        self.inbox.resize(old + self.room, 0);
        let got = match self.plain {
            true => self.take_plain(old, flags.contains(RecvFlags::DONTWAIT)),
            false => self.take_message(old, flags),
        };
        self.inbox.truncate(old + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(0) => Ok(Filled::End),
            Ok(got) => {
                if got == self.room {
                    self.room = ROOM.1;
                }
                Ok(Filled::Some)
            }
            Err(rustix::io::Errno::INTR) => Ok(Filled::Some),
            Err(rustix::io::Errno::AGAIN) => Ok(Filled::Nothing),
            Err(rustix::io::Errno::CONNRESET) if !self.plain => Ok(Filled::End),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes bytes into the inbox from there on, with the files beside them.
    fn take_message(&mut self, at: usize, flags: RecvFlags) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut room = [IoSliceMut::new(&mut self.inbox[at..])];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&self.socket, &mut room, &mut control, flags)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        Ok(got)
    }

    /// The same of what is no socket, and never waits by itself.
    fn take_plain(&mut self, at: usize, at_once: bool) -> rustix::io::Result<usize> {
        loop {
            match rustix::io::read(&self.socket, &mut self.inbox[at..]) {
                Err(rustix::io::Errno::AGAIN) if !at_once => {
                    let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
                    match poll(&mut fds, None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(e) => return Err(e),
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                got => return got,
            }
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(PartialEq)]
enum Filled {
    Some,
    Nothing,
    End,
}

/// An end that goes with something unread is told another way to whoever waits
/// for room just then.
fn gone(error: rustix::io::Errno) -> rustix::io::Errno {
    match error {
        rustix::io::Errno::CONNRESET => rustix::io::Errno::PIPE,
        other => other,
    }
}

fn message_frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0, 0, 0, 0, b'J'];
    serde_json::to_writer(&mut frame, message)?;
    close_frame(frame)
}

fn data_frame(channel: u32, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(9 + bytes.len());
    frame.extend_from_slice(&(5 + bytes.len() as u32).to_le_bytes());
    frame.push(b'D');
    frame.extend_from_slice(&channel.to_le_bytes());
    frame.extend_from_slice(bytes);
    frame
}

fn close_frame(mut frame: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is larger than 16 MiB",
        ));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_data_and_files_arrive_in_order() {
        let (mut a, mut b) = Wire::pair().expect("a pair");
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        a.send(&"one", &[writer.as_fd()]).expect("sent");
        a.send_data(7, b"bytes").expect("sent");
        a.send(&"two", &[]).expect("sent");
        assert_eq!(b.receive::<String>().expect("received"), "one");
        let sent = b.take_fd().expect("a file came");
        assert_eq!(
            b.receive_frame().expect("received"),
            Some(Frame::Data(7, b"bytes".to_vec()))
        );
        assert_eq!(b.receive::<String>().expect("received"), "two");
        assert_eq!(b.try_receive_frame().expect("nothing yet"), None);
        drop(writer);
        rustix::io::write(&sent, b"x").expect("the file is the pipe");
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte).expect("read"), 1);
        drop(a);
        assert_eq!(b.receive_frame().expect("the end"), None);
    }

    #[test]
    fn who_waits_for_room_hears_that_the_other_end_is_gone_as_everybody_does() {
        let (mut ours, theirs) = Wire::pair().expect("a pair");
        let writer = std::thread::spawn(move || {
            loop {
                if let Err(error) = ours.send_data(1, &[0; 1000]) {
                    return error.kind();
                }
            }
        });
        // It waits when no more comes for a while.
        let (mut before, mut waits) = (0, false);
        while !waits {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let now = rustix::io::ioctl_fionread(&theirs).expect("a socket");
            waits = now > 0 && now == std::mem::replace(&mut before, now);
        }
        drop(theirs);
        assert_eq!(writer.join().expect("it ends"), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused() {
        let (a, mut b) = Wire::pair().expect("a pair");
        rustix::io::write(&a, &[0xff, 0xff, 0xff, 0x7f, b'J']).expect("written");
        let error = b.receive_frame().expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_the_other_end_does_not_take_stays_queued() {
        let (mut a, b) = Wire::pair().expect("a pair");
        let chunk = vec![0u8; 1 << 20];
        for _ in 0..4 {
            a.queue_data(1, &chunk);
        }
        a.flush().expect("does not block");
        assert!(a.queued() > 0);
        drop(b);
        assert!(a.flush().is_err());
    }
}
