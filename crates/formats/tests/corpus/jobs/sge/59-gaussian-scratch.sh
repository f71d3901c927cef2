#!/bin/bash
#$ -N opt_freq
#$ -S /bin/bash
#$ -cwd
#$ -pe shm 8
#$ -l h_vmem=2500M
#$ -l scratch=200G
#$ -l h_rt=72::
#$ -e opt_freq.err -o opt_freq.out
export g16root=/opt/chem GAUSS_SCRDIR=$TMPDIR
source $g16root/g16/bsd/g16.profile
save() { cp -p "$TMPDIR"/*.chk "$SGE_O_WORKDIR"/ 2>/dev/null; }
trap save EXIT TERM
cp water.com "$TMPDIR"; cd "$TMPDIR"
g16 < water.com > "$SGE_O_WORKDIR/water.log"
