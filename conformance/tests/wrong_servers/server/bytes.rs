//! Bytes as servers that are wrong take them.

/// The first bytes of programs that speak no telnet and are no raw clients either.
pub(super) fn is_at_the_wrong_port(bytes: &[u8]) -> bool {
    let begins = |with: &[u8]| bytes.starts_with(with);
    let first_line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_http = first_line.windows(8).any(|word| word == b" HTTP/1.");
    is_http || begins(b"SSH-2.0-") || begins(b"PROXY ") || (begins(&[22, 3]) && bytes.get(5) == Some(&1))
}

/// A subnegotiation ends at the first IAC in it, doubled or not.
pub(super) fn naive_sub_end(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut in_sub, mut index) = (Vec::new(), false, 0);
    while index < bytes.len() {
        match &bytes[index..] {
            [255, 250, ..] => in_sub = true,
            [255, 240, ..] => in_sub = false,
            [255, 255, ..] if in_sub => {
                out.extend([255, 240]);
                in_sub = false;
                index += 2;
                continue;
            }
            _ => {}
        }
        let step = if bytes[index] == 255 { 2.min(bytes.len() - index) } else { 1 };
        out.extend_from_slice(&bytes[index..index + step]);
        index += step;
    }
    out
}

/// Two bytes 255 are taken for one before anybody looks for commands.
pub(super) fn undoubled(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut index) = (Vec::new(), 0);
    while index < bytes.len() {
        out.push(bytes[index]);
        index += 1 + usize::from(bytes[index..].starts_with(&[255, 255]));
    }
    out
}
