#!/bin/sh
#$ -N feat_level1
#$ -t 1-38
#$ -hold_jid bet*
#$ -q short.q,verylong.q
#$ -m as
#$ -M imaging@lab.example
#$ -o $HOME/logs/$JOB_NAME.o$JOB_ID.$TASK_ID
#$ -e $HOME/logs/$JOB_NAME.e$JOB_ID.$TASK_ID
FSLDIR=/opt/fsl; . $FSLDIR/etc/fslconf/fsl.sh
PATH=$FSLDIR/bin:$PATH
export FSLDIR PATH
# fsl_sub of FEAT would submit again from inside: it is told not to.
SGE_ROOT=""
sub=$(sed -n "${SGE_TASK_ID}{p;q}" subjects.txt)
feat designs/$sub.fsf
