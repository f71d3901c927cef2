//! The life of jobs, as a user sees it, and what holds whatever happens.

mod case;
mod edits;
mod fair;
mod rules;
mod site;
mod stories;
