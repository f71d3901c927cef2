//! `WWW-Authenticate`: what a registry asks for (RFC 9110 §11, distribution's token spec).

/// One challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// What the token server calls this registry.
        service: Option<String>,
        /// What the token must permit.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Chooses from the values of a response's headers: a token before a password.
    pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<Self> = headers.flat_map(parse).collect();
        let bearer = all.iter().find(|c| matches!(c, Self::Bearer { .. }));
        bearer.or_else(|| all.first()).cloned()
    }
}

/// Reads the challenges of one header; what is not understood is left out.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut scheme = "";
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word_end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        // `name=value` belongs to the scheme before it; a bare word begins one.
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, tail) = read_value(value.trim_start());
            fields.push((word.to_ascii_lowercase(), value));
            rest = tail;
            continue;
        }
        found.extend(finish(scheme, std::mem::take(&mut fields)));
        if word.is_empty() {
            return found;
        }
        scheme = word;
        rest = after;
    }
}

fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn finish(scheme: &str, fields: Vec<(String, String)>) -> Option<Challenge> {
    let get = |name: &str| {
        let at = fields.iter().position(|(key, _)| key == name)?;
        Some(fields[at].1.clone())
    };
    if scheme.eq_ignore_ascii_case("basic") {
        Some(Challenge::Basic)
    } else if scheme.eq_ignore_ascii_case("bearer") {
        Some(Challenge::Bearer {
            realm: get("realm")?,
            service: get("service"),
            scope: get("scope"),
        })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_challenges_of_the_field_are_read() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::choose([docker].into_iter()),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into()),
                scope: Some("repository:a/b:pull,push".into()),
            })
        );
        assert_eq!(
            Challenge::choose(["Basic realm=\"x\""].into_iter()),
            Some(Challenge::Basic)
        );
        assert_eq!(
            Challenge::choose(["bAsIc"].into_iter()),
            Some(Challenge::Basic)
        );
        let two = r#"Basic realm="a, b", BEARER Realm = "https://t/\"x\"" , service=s"#;
        let bearer = Challenge::Bearer {
            realm: "https://t/\"x\"".into(),
            service: Some("s".into()),
            scope: None,
        };
        assert_eq!(parse(two), [Challenge::Basic, bearer.clone()]);
        assert_eq!(Challenge::choose([two].into_iter()), Some(bearer));
        for none in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer service=x",
            "=,=",
            "Digest realm=\"Basic\"",
        ] {
            assert_eq!(Challenge::choose([none].into_iter()), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic_or_hang(header in "[a-zB=\", \\\\é]{0,60}") {
            let _ = parse(&header);
        }
    }
}
