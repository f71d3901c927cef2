#!/bin/bash
#SBATCH -J benzene-opt
#SBATCH -c 8
#SBATCH --mem=17G	# %mem in the input and a GiB more
#SBATCH -t 24:00:00
#SBATCH --exclude=old[01-04,17],gpu1
#SBATCH --input=benzene.gjf
#SBATCH --output=benzene.log
#SBATCH --error=benzene.err

export GAUSS_SCRDIR=$(mktemp -d "/local/g16.$SLURM_JOB_ID.XXXX")
clean() { cp "$GAUSS_SCRDIR"/*.chk "$SLURM_SUBMIT_DIR" 2>/dev/null; rm -rf "$GAUSS_SCRDIR"; }
trap clean EXIT TERM INT
g16
formchk benzene.chk
