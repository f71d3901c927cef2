//! `hyperion vm …`

mod agent;
mod autostart;
mod change;
mod clone;
mod create;
mod exec;
mod export;
mod external;
mod image;
mod import;
mod kernel;
mod layers;
mod live;
mod machines;
mod seats;
mod ssh;
mod unfinished;
mod vnc;

use clap::Subcommand;
use hyperion_isolation::vm::qmp::Qmp;
use hyperion_sys::entry::ExitCode;

use crate::context::Context;

/// The verbs of `hyperion vm`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum VmCommand {
    /// Make a machine that stays, from flags
    Create(Box<create::CreateArgs>),
    /// Make a machine that stays, from libvirt's domain XML
    Define(create::DefineArgs),
    /// Make a machine that stays, from a disk image or an appliance (OVA)
    Import(Box<import::ImportArgs>),
    /// List machines [columns as `virsh list`]
    #[command(visible_alias = "list")]
    Ls(machines::LsArgs),
    /// Show the definition and the state of a machine, as JSON
    #[command(visible_alias = "inspect")]
    Show(machines::One),
    /// Start a machine, or all that are marked to start with their host
    Start(machines::StartArgs),
    /// Ask the guest of a machine to shut down, and switch it off if it does not
    Stop(machines::StopArgs),
    /// Have the guest of a machine start anew, or shut it down and start it
    Reboot(machines::RebootArgs),
    /// Stop the processors of a machine
    #[command(visible_alias = "suspend")]
    Pause(machines::One),
    /// Let the processors of a machine go on
    Resume(machines::One),
    /// Start a machine with its host, or no more
    Autostart(autostart::AutostartArgs),
    /// Remove a machine and the disks that were made for it
    #[command(visible_alias = "rm")]
    Delete(machines::DeleteArgs),
    /// Go to the console of a machine; ctrl-] leaves
    Console(machines::One),
    /// Log in to the guest of a machine by SSH
    Ssh(ssh::SshArgs),
    /// Run a program in the guest of a machine, by its agent
    Exec(exec::ExecArgs),
    /// Copy a file into the guest of a machine, or out of it, by its agent
    Cp(agent::CpArgs),
    /// See the screen of a machine: by a socket, or by a port that one viewer may use once
    Vnc(vnc::VncArgs),
    /// Write a picture of the screen of a machine
    Screenshot(vnc::ScreenshotArgs),
    /// Change the definition of a machine: as domain XML, in an editor, or where it lies, by flags
    Edit(Box<change::EditArgs>),
    /// Make a machine like another, which shares what its disks hold until now
    Clone(clone::CloneArgs),
    /// Give a machine another size
    Resize(change::ResizeArgs),
    /// Save the state of a machine in its disks or beside them, or list what is saved
    Snapshot(change::SnapshotArgs),
    /// Go back to a saved state of a machine
    Restore(change::RestoreArgs),
    /// Write a machine as domain XML, as the command line of QEMU, or as an appliance (OVA)
    Export(export::ExportArgs),
    /// Look after the kernels that virtual machines boot
    #[command(subcommand)]
    Kernel(kernel::KernelCommand),
}

/// Carries out a verb of `hyperion vm`.
pub(crate) fn run(command: &VmCommand, ctx: &Context) -> anyhow::Result<ExitCode> {
    use VmCommand as C;
    match command {
        C::Create(args) => create::create(args, ctx),
        C::Define(args) => create::define(args, ctx),
        C::Import(args) => import::import(args, ctx),
        C::Ls(args) => machines::ls(args, ctx),
        C::Show(args) => machines::show(args, ctx),
        C::Start(args) => machines::start(args, ctx),
        C::Autostart(args) => autostart::autostart(args, ctx),
        C::Stop(args) => machines::stop(args, ctx),
        C::Reboot(args) => machines::reboot(args, ctx),
        C::Pause(args) => machines::ask(args, ctx, Qmp::stop),
        C::Resume(args) => machines::resume(args, ctx),
        C::Delete(args) => machines::delete(args, ctx),
        C::Console(args) => machines::console(args, ctx),
        C::Ssh(args) => return ssh::ssh(args, ctx),
        C::Exec(args) => return exec::exec(args, ctx),
        C::Cp(args) => agent::cp(args, ctx),
        C::Vnc(args) => vnc::vnc(args, ctx),
        C::Screenshot(args) => vnc::screenshot(args, ctx),
        C::Edit(args) => change::edit(args, ctx),
        C::Clone(args) => clone::clone(args, ctx),
        C::Resize(args) => change::resize(args, ctx),
        C::Snapshot(args) => change::snapshot(args, ctx),
        C::Restore(args) => change::restore(args, ctx),
        C::Export(args) => export::export(args, ctx),
        C::Kernel(command) => return kernel::run(command, ctx),
    }?;
    Ok(ExitCode::SUCCESS)
}
