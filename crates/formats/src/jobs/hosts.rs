//! Lists of hosts with ranges in brackets: `n[1-3,5]`, in and out.

/// The most hosts of a list.
const MOST: usize = 65_536;

/// Writes out `n[1-3,5],m08`; nothing where it is not such a list, or one of
/// more hosts than there are.
pub fn expand(text: &str) -> Option<Vec<String>> {
    let mut hosts = Vec::new();
    if text.is_empty() {
        return Some(hosts);
    }
    for part in super::amounts::split(text, ',') {
        one(part, &mut hosts)?;
    }
    Some(hosts)
}

fn one(text: &str, hosts: &mut Vec<String>) -> Option<()> {
    if text.is_empty() || text.chars().any(char::is_whitespace) {
        return None;
    }
    let mut whole = vec![String::new()];
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('[') {
        let (inside, behind) = behind.split_once(']')?;
        let numbers = numbers(inside, MOST - hosts.len())?;
        if before.contains(']') || whole.len().checked_mul(numbers.len())? > MOST - hosts.len() {
            return None;
        }
        let add = |start: &String| {
            let start = format!("{start}{before}");
            numbers
                .iter()
                .map(move |number| format!("{start}{number}"))
                .collect::<Vec<_>>()
        };
        whole = whole.iter().flat_map(add).collect();
        rest = behind;
    }
    if rest.contains(']') || whole.len() > MOST - hosts.len() {
        return None;
    }
    hosts.extend(whole.into_iter().map(|start| start + rest));
    Some(())
}

fn numbers(text: &str, most: usize) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let digits =
            |t: &str| !t.is_empty() && t.len() <= 9 && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return None;
        }
        let width = first.len();
        let (from, to): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if from > to || (to - from) as usize >= most.saturating_sub(all.len()) {
            return None;
        }
        all.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Some(all)
}

/// Writes hosts in the short form, in their order: neighbours that differ in
/// their last number share one pair of brackets.
pub fn compress<S: AsRef<str>>(hosts: &[S]) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut group: Option<Group<'_>> = None;
    for host in hosts {
        let host = host.as_ref();
        let digits = host.len() - host.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (prefix, number) = host.split_at(host.len() - digits);
        let number = match number.parse::<u32>() {
            Ok(number) if digits <= 9 => number,
            _ => {
                out.extend(group.take().map(Group::written));
                out.push(host.to_owned());
                continue;
            }
        };
        match &mut group {
            Some(open) if open.prefix == prefix && open.width == digits => open.add(number),
            _ => {
                out.extend(group.take().map(Group::written));
                group = Some(Group {
                    prefix,
                    width: digits,
                    ranges: vec![(number, number)],
                });
            }
        }
    }
    out.extend(group.take().map(Group::written));
    out.join(",")
}

/// Hosts of one prefix and as many digits.
struct Group<'a> {
    prefix: &'a str,
    width: usize,
    ranges: Vec<(u32, u32)>,
}

impl Group<'_> {
    fn add(&mut self, number: u32) {
        match self.ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => self.ranges.push((number, number)),
        }
    }

    fn written(self) -> String {
        let width = self.width;
        let range = |(first, last): &(u32, u32)| match first == last {
            true => format!("{first:0width$}"),
            false => format!("{first:0width$}-{last:0width$}"),
        };
        let ranges: Vec<_> = self.ranges.iter().map(range).collect();
        match self.ranges.as_slice() {
            [(first, last)] if first == last => format!("{}{}", self.prefix, ranges[0]),
            _ => format!("{}[{}]", self.prefix, ranges.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_in_brackets_are_hosts() {
        assert_eq!(
            expand("n[1-3,5]"),
            Some(["n1", "n2", "n3", "n5"].map(str::to_owned).to_vec())
        );
        assert_eq!(
            expand("a,m[08-10]x"),
            Some(["a", "m08x", "m09x", "m10x"].map(str::to_owned).to_vec())
        );
        assert_eq!(expand("r[1-2]n[0-1]").map(|all| all.len()), Some(4));
        for bad in [
            "n[1-",
            "n]",
            "n[3-1]",
            "n[]",
            "n[a-b]",
            ",",
            "n[1-999999999]",
            "n[0-9999]m[0-9999]",
            "a b",
        ] {
            assert_eq!(expand(bad), None, "{bad}");
        }
        assert_eq!(
            compress(&["n1", "n2", "n3", "n5", "login", "m08", "m09"]),
            "n[1-3,5],login,m[08-09]"
        );
        assert_eq!(compress(&["n1"]), "n1");
        assert_eq!(compress::<&str>(&[]), "");
    }

    proptest! {
        #[test]
        fn hosts_survive_being_written(hosts in proptest::collection::vec("[a-c]{1,2}[0-9]{0,3}", 0..20)) {
            prop_assert_eq!(expand(&compress(&hosts)), Some(hosts));
        }

        #[test]
        fn no_text_makes_the_reader_of_hosts_panic(text in "[a-c0-9,\\[\\]-]{0,40}") {
            let _ = expand(&text);
        }
    }
}
