//! Text frames of a server, as bytes (RFC 6455, 5.2): unmasked, so that what goes to many clients is written once.

/// A head is at most so long, in bytes.
pub const MAX_HEAD: usize = 10;
/// Final, and a text.
const TEXT: u8 = 0x81;
/// Lengths up to here stand in the second byte.
const SHORT: usize = 125;
/// Bytes of the head of most frames: a length of two bytes.
const USUAL_HEAD: usize = 4;

/// Appends the head of a frame whose text has this length.
pub fn head(length: usize, into: &mut Vec<u8>) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if length <= SHORT => into.extend_from_slice(&[TEXT, short]),
        (_, Ok(middle)) => {
            into.extend_from_slice(&[TEXT, 126]);
            into.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            into.extend_from_slice(&[TEXT, 127]);
            into.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a frame around the text that `write` appends.
pub fn framed<T>(into: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let at = into.len();
    into.extend_from_slice(&[0; USUAL_HEAD]);
    let written = write(into);
    let length = into.len() - at - USUAL_HEAD;
    if let (Ok(middle), true) = (u16::try_from(length), length > SHORT) {
        into[at..at + 2].copy_from_slice(&[TEXT, 126]);
        into[at + 2..at + USUAL_HEAD].copy_from_slice(&middle.to_be_bytes());
    } else {
        let mut other = Vec::with_capacity(MAX_HEAD);
        head(length, &mut other);
        into.splice(at..at + USUAL_HEAD, other);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_in_as_few_bytes_as_it_takes() {
        for (length, taken, announced) in [
            (0, 2, vec![0]),
            (125, 2, vec![125]),
            (126, 4, vec![126, 0, 126]),
            (65_535, 4, vec![126, 255, 255]),
            (65_536, 10, vec![127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = "x".repeat(length);
            let mut frame = b"before".to_vec();
            framed(&mut frame, |into| into.extend_from_slice(text.as_bytes()));
            let mut same = b"before".to_vec();
            head(length, &mut same);
            assert_eq!(same.len(), 6 + taken, "{length}");
            assert_eq!(same[6..], [&[TEXT][..], &announced].concat(), "{length}");
            same.extend_from_slice(text.as_bytes());
            assert_eq!(frame, same, "{length}");
        }
    }
}
