//! Images: the store that keeps them, the registries and archives that they
//! come from, and the root file systems made of them.
//!
//! Everything is named by digest and nothing is trusted before its digest was
//! checked. Images are taken as hostile: no entry of a layer leaves the folder
//! that it is unpacked into, and no number in a manifest is believed.
//!
//! **Architecture invariant:** this crate prints nothing and reads no
//! environment; where things lie and what the host can do comes in as arguments.

pub mod archive;
pub mod bootstrap;
pub mod digest;
pub mod disk;
pub mod folder;
#[doc(hidden)]
pub mod fuzz;
pub mod import;
pub mod layer;
pub mod ova;
pub mod reference;
pub mod registry;
pub mod store;

pub use digest::{Digest, DigestError};
pub use layer::unpack::Owners;
pub use reference::{ImageReference, ReferenceError};
pub use store::{ImageRecord, Lease, Root, RootForm, RootPolicy, RootfsError, Store, StoreError};
