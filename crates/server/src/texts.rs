//! The long parts of submissions: scripts and environments. They lie in the journal,
//! each once, and not in the memory of the server.

use hyperion_model::submission::{Command, Elsewhere, Submission};

use crate::journal::{Journal, Text};

/// Takes the long parts out of a submission.
pub(crate) fn take_texts(submission: &mut Submission) -> Vec<Text> {
    let mut texts = Vec::new();
    if let Command::Script { text, .. } = &mut submission.command {
        let script = Text::new(std::mem::take(text));
        submission.elsewhere.script = Some(script.digest.clone());
        texts.push(script);
    }
    let variables = std::mem::take(&mut submission.origin.variables);
    // A map of texts is always JSON.
    if let Ok(json) = serde_json::to_vec(&variables) {
        let variables = Text::new(json);
        submission.elsewhere.variables = Some(variables.digest.clone());
        texts.push(variables);
    }
    texts
}

/// Puts them back, but those that were the same of another submission; tells whether all were
/// found.
pub(crate) fn put_texts(submission: &mut Submission, journal: &Journal, but: &Elsewhere) -> bool {
    let find = |digest: &str| journal.text(digest).ok().flatten();
    let named = submission.elsewhere.clone();
    let mut whole = true;
    if let (Some(digest), Command::Script { text, .. }) = (&named.script, &mut submission.command)
        && but.script.as_ref() != Some(digest)
    {
        let found = find(digest);
        whole &= found.is_some();
        *text = found.unwrap_or_default();
    }
    if let Some(digest) = &named.variables
        && but.variables.as_ref() != Some(digest)
    {
        let found = find(digest).and_then(|json| serde_json::from_slice(&json).ok());
        whole &= found.is_some();
        submission.origin.variables = found.unwrap_or_default();
    }
    whole
}
