//! How what is started was asked.

use hyperion_model::submission::{Command, Submission};

/// The last submission of which the server spoke. Tasks of an array, and jobs that come one
/// after the other, mostly have the same, or the same script and variables: it says them once.
#[derive(Default)]
pub(super) struct Asked(Option<Submission>);

impl Asked {
    /// Hears of another, and puts in what was left out.
    pub(super) fn hear(&mut self, mut submission: Submission) {
        let named = &submission.elsewhere;
        if let Some(last) = &self.0 {
            let same = (
                named.script == last.elsewhere.script,
                named.variables == last.elsewhere.variables,
            );
            if let (true, Command::Script { text, .. }, Command::Script { text: its, .. }) =
                (same.0, &mut submission.command, &last.command)
            {
                text.clone_from(its);
            }
            if same.1 {
                let variables = &last.origin.variables;
                submission.origin.variables.clone_from(variables);
            }
        }
        self.0 = Some(submission);
    }

    /// Gives the last.
    pub(super) fn last(&self) -> Option<&Submission> {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use hyperion_model::submission::Dialect;

    use super::*;

    #[test]
    fn what_is_left_out_is_as_it_was_before() {
        let mut asked = Asked::default();
        let mut said = |script: (&str, &[u8]), (digest, value): (&str, Option<&str>)| {
            let command = Command::Script {
                interpreter: None,
                text: script.1.to_vec(),
                arguments: Vec::new(),
            };
            let mut submission = Submission::new(Dialect::Slurm, command);
            submission.elsewhere.script = Some(script.0.into());
            submission.elsewhere.variables = Some(digest.into());
            let variables = value.map(|value| ("A".to_owned(), value.to_owned()));
            submission.origin.variables = variables.into_iter().collect();
            asked.hear(submission);
            let last = asked.last().expect("it was said");
            let Command::Script { text, .. } = &last.command else {
                panic!("it is a script");
            };
            let value = last.origin.variables.get("A").cloned();
            (String::from_utf8_lossy(text).into_owned(), value)
        };
        let (one, two) = (Some("1".to_owned()), Some("2".to_owned()));
        let first = said(("a", b"true"), ("x", Some("1")));
        assert_eq!(first, ("true".into(), one.clone()));
        assert_eq!(said(("a", b""), ("x", None)), ("true".into(), one.clone()));
        assert_eq!(said(("b", b"false"), ("x", None)), ("false".into(), one));
        let other = said(("b", b""), ("y", Some("2")));
        assert_eq!(other, ("false".into(), two.clone()));
        assert_eq!(said(("c", b""), ("y", None)), (String::new(), two));
    }
}
