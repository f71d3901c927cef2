use hyperion_model::submission::{Elsewhere, Environment, Fence, Files, Mail, Origin, Part};
use hyperion_model::{Pool, Shared};
use hyperion_sched::Request;

use crate::record::Submitted;

/// What many jobs have the same of: each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Common {
    requests: Pool<Request>,
    parts: Pool<Vec<Part>>,
    mail: Pool<Mail>,
    environments: Pool<Environment>,
    files: Pool<Files>,
    fences: Pool<Fence>,
    origins: Pool<Origin>,
    elsewhere: Pool<Elsewhere>,
}

impl Common {
    /// Has a job, and what each of its tasks takes, share what it has the same as others.
    pub(crate) fn share(&mut self, asked: &mut Submitted, request: &mut Shared<Request>) {
        self.requests.share(request);
        self.requests.share(&mut asked.request);
        let asked = &mut asked.submission;
        self.parts.share(&mut asked.parts);
        self.mail.share(&mut asked.mail);
        self.environments.share(&mut asked.environment);
        self.files.share(&mut asked.files);
        self.fences.share(&mut asked.fence);
        self.origins.share(&mut asked.origin);
        self.elsewhere.share(&mut asked.elsewhere);
    }
}
