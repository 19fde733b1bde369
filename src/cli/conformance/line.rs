//! One connection of a case: frames of our own making, or the client library.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::case::{Message, Pieces};
use super::messages::{AdminAsk, ServiceAsk, parsed};
use super::replies::{admin_ok, greeting, outcome, service_ok};
use crate::client::{AdminClient, Client, ClientError, Options};
use crate::passport::hex;
use crate::wire::{
    AdminReply, AdminRequest, Greeting, HEADER, Hello, MAX_FRAME, Reply, Request, WIRE_VERSION, decode, encode_frame,
};

/// What a connection that has ended comes to, in the place of a reply.
pub(super) const CLOSED: &str = "closed";
/// What we call ourselves.
const NAME: &str = concat!("passportctl/", env!("CARGO_PKG_VERSION"));

/// A socket: where it is, and which messages it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    /// Its path.
    pub(super) path: PathBuf,
    /// Whether admins speak there.
    pub(super) admin: bool,
}

/// Frames of our own making.
pub(super) struct Frames {
    admin: bool,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    patience: Duration,
    greeted: bool,
    ended: bool,
    next_id: u64,
}

/// What is to be sent: the bytes, and the id of each message that has one.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    ids: Vec<Option<u64>>,
    half_close: bool,
}

impl Frames {
    /// Connects and says nothing.
    pub(super) async fn connect(door: &Door, patience: Duration) -> Result<Self, String> {
        let stream = UnixStream::connect(&door.path).await.map_err(|error| unreachable_door(&door.path, &error))?;
        let (reader, writer) = stream.into_split();
        Ok(Self { admin: door.admin, reader, writer, patience, greeted: false, ended: false, next_id: 1 })
    }

    /// Says Hello; what the daemon answers.
    pub(super) async fn greet(&mut self) -> Result<Value, String> {
        let hello = json!({"wire": WIRE_VERSION, "client": NAME});
        let message = Message { hello: serde_json::from_value(hello).ok(), ..Message::default() };
        let (_, mut events) = self.exchange(&[message], 1).await?;
        events.pop().ok_or_else(|| "no greeting".to_owned())
    }

    /// Sends all in one write, and reads so many replies, the end of the connection counting as one and as the last. The ids
    /// are those of the messages.
    pub(super) async fn exchange(
        &mut self,
        messages: &[Message],
        replies: usize,
    ) -> Result<(Vec<Option<u64>>, Vec<Value>), String> {
        let outgoing = self.outgoing(messages)?;
        let mut events = Vec::new();
        let (reader, writer, admin) = (&mut self.reader, &mut self.writer, self.admin);
        let greeted = &mut self.greeted;
        let writing = async {
            // A daemon that closes the connection need not read all; what it says of it is still read.
            let written = writer.write_all(&outgoing.bytes).await;
            if outgoing.half_close && written.is_ok() {
                drop(writer.shutdown().await);
            }
        };
        let reading = async {
            while events.len() < replies {
                let Some(body) = frame(reader).await? else {
                    events.push(CLOSED.into());
                    break;
                };
                events.push(message(&body, admin, greeted)?);
            }
            Ok::<_, String>(())
        };
        let both = async { tokio::join!(writing, reading).1 };
        let finished = tokio::time::timeout(self.patience, both).await;
        match finished {
            Ok(read) => read?,
            Err(_) => {
                let shown = Value::Array(events.clone());
                return Err(format!("no answer within {} s; came {shown}", self.patience.as_secs_f64()));
            }
        }
        self.ended = events.last().is_some_and(|event| event == CLOSED);
        Ok((outgoing.ids, events))
    }

    /// Ends the connection in good order: nothing that was not asked for may come before its end.
    pub(super) async fn settle(mut self) -> Result<(), String> {
        if self.ended {
            return Ok(());
        }
        let half_close = Message { half_close: true, ..Message::default() };
        let (_, events) = self.exchange(&[half_close], 1).await?;
        match events.first() {
            Some(event) if event != CLOSED => Err(format!("a reply that nobody asked for: {event}")),
            _ => Ok(()),
        }
    }

    fn outgoing(&mut self, messages: &[Message]) -> Result<Outgoing, String> {
        let mut out = Outgoing::default();
        for message in messages {
            let id = message.op.is_some().then(|| message.id.unwrap_or(self.next_id));
            if message.id.is_none() && id.is_some() {
                self.next_id += 1;
            }
            out.ids.push(id);
            out.half_close |= message.half_close;
            self.append(message, id.unwrap_or_default(), &mut out.bytes)?;
        }
        Ok(out)
    }

    fn append(&self, message: &Message, id: u64, out: &mut Vec<u8>) -> Result<(), String> {
        let corr_id = match &message.corr_id {
            None => [0; 16],
            Some(text) => hex::decode_exactly(text).ok_or_else(|| format!("{text:?} is no correlation id"))?,
        };
        let large = |error: crate::wire::WireError| error.to_string();
        match message {
            Message { op: Some(op), .. } if self.admin => {
                let ask: AdminAsk = parsed(op)?;
                encode_frame(&AdminRequest { id, corr_id, op: ask.on_wire() }, out).map_err(large)
            }
            Message { op: Some(op), .. } => {
                let ask: ServiceAsk = parsed(op)?;
                encode_frame(&Request { id, corr_id, op: ask.on_wire()? }, out).map_err(large)
            }
            Message { hello: Some(hello), .. } => {
                encode_frame(&Hello { wire: hello.wire, client: &hello.client }, out).map_err(large)
            }
            Message { body: Some(pieces), .. } => {
                let body = bytes(pieces)?;
                let length = u32::try_from(body.len()).map_err(|error| error.to_string())?;
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&body);
                Ok(())
            }
            Message { bytes: Some(pieces), .. } => {
                out.extend_from_slice(&bytes(pieces)?);
                Ok(())
            }
            Message { half_close: true, .. } => Ok(()),
            _ => Err("a message is one of op, hello, body, bytes and half_close".to_owned()),
        }
    }
}

/// Why a socket can't be reached.
pub(super) fn unreachable_door(path: &Path, error: &std::io::Error) -> String {
    format!("can't connect to {}: {error}", path.display())
}

fn bytes(pieces: &Pieces) -> Result<Vec<u8>, String> {
    let digits = |text: &str| {
        let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        hex::decode(&digits).ok_or_else(|| format!("{text:?} is not hex in lower case"))
    };
    match pieces {
        Pieces::Hex(text) => digits(text),
        Pieces::List(list) => Ok(list.iter().map(bytes).collect::<Result<Vec<_>, _>>()?.concat()),
        Pieces::Repeat { hex, times } => {
            let piece = digits(hex)?;
            let fits = piece.len().checked_mul(*times).is_some_and(|all| all <= 2 * MAX_FRAME);
            if fits { Ok(piece.repeat(*times)) } else { Err(format!("{times} times {hex:?} is too much")) }
        }
    }
}

/// The next body; none at the end of the connection. A daemon that closes with bytes of ours unread resets it.
async fn frame(reader: &mut OwnedReadHalf) -> Result<Option<Vec<u8>>, String> {
    let mut header = [0; HEADER];
    match reader.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(format!("the daemon announces a body of {length} bytes; max_frame is {MAX_FRAME}"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.map_err(|error| format!("a frame that is cut short: {error}"))?;
    Ok(Some(body))
}

/// A body of the daemon as JSON; the first one of a connection is a greeting.
fn message(body: &[u8], admin: bool, greeted: &mut bool) -> Result<Value, String> {
    let wrong = |error: crate::wire::WireError| format!("the daemon's frame {}: {error}", hex::encode(body));
    if !*greeted {
        *greeted = true;
        return decode::<Greeting>(body).map(greeting).map_err(wrong);
    }
    let (id, mut shown) = if admin {
        let AdminReply { id, result } = decode(body).map_err(wrong)?;
        (id, outcome(result, admin_ok))
    } else {
        let Reply { id, result } = decode(body).map_err(wrong)?;
        (id, outcome(result, service_ok))
    };
    if let Some(members) = shown.as_object_mut() {
        members.insert("id".to_owned(), id.into());
    }
    Ok(shown)
}

/// The client library, for plain requests.
pub(super) enum Library {
    /// Of the service socket.
    Service(Client),
    /// Of the admin socket.
    Admin(AdminClient),
}

impl Library {
    /// Connects. A refused greeting is an error.
    pub(super) async fn connect(door: &Door, patience: Duration) -> Result<Self, ClientError> {
        let options = Options { socket: door.path.clone(), timeout: patience, name: NAME.to_owned() };
        Ok(if door.admin {
            Self::Admin(AdminClient::connect(options).await?)
        } else {
            Self::Service(Client::connect(options).await?)
        })
    }

    /// Asks; the reply without its id, which the client keeps to itself.
    pub(super) async fn ask(&self, op: &Value) -> Result<Value, String> {
        let answer = match self {
            Self::Service(client) => {
                let ask: ServiceAsk = parsed(op)?;
                client.ask([0; 16], ask.on_wire()?).await.map(service_ok)
            }
            Self::Admin(client) => {
                let ask: AdminAsk = parsed(op)?;
                client.ask(ask.on_wire()).await.map(admin_ok)
            }
        };
        match answer {
            Ok(ok) => Ok(json!({"ok": ok})),
            Err(ClientError::Problem(problem)) => Ok(outcome(Err::<Value, _>(problem), Value::from)),
            Err(other) => Err(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Vec<u8>, String> {
        bytes(&serde_json::from_value(value).map_err(|error| error.to_string())?)
    }

    #[test]
    fn bytes_are_hex_repeated_and_joined() {
        assert_eq!(read(json!("01 0a\nff")), Ok(vec![1, 10, 255]));
        assert_eq!(read(json!(["01", {"hex": "0203", "times": 2}, []])), Ok(vec![1, 2, 3, 2, 3]));
        let too_much = json!({"hex": "00", "times": 2 * MAX_FRAME + 1});
        for bad in [json!("0"), json!("0G"), json!("FF"), json!(1), json!({"hex": "00"}), too_much] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_frame_is_whole_or_the_end_or_an_error() {
        for (sent, came) in [
            (&[0, 0, 0, 1, 9][..], "Ok(Some([9]))"),
            (&[], "Ok(None)"),
            (&[0, 0, 0, 2, 9], "Err(\"a frame that is cut short: "),
            (&[0, 0x10, 0, 1], "Err(\"the daemon announces a body of 1048577 bytes; "),
        ] {
            let (mut daemon, here) = UnixStream::pair().unwrap();
            daemon.write_all(sent).await.unwrap();
            drop(daemon);
            let read = format!("{:?}", frame(&mut here.into_split().0).await);
            assert!(read.starts_with(came), "{read}");
        }
    }

    #[test]
    fn a_reply_in_the_place_of_a_greeting_is_none_and_the_other_way_round() {
        let mut reply = Vec::new();
        encode_frame(&Reply { id: 1, result: Ok(crate::wire::ServiceOk::Pong) }, &mut reply).unwrap();
        let body = &reply[HEADER..];
        assert!(message(body, false, &mut false).is_err());
        assert_eq!(message(body, false, &mut true), Ok(json!({"id": 1, "ok": {"Pong": {}}})));
    }
}
