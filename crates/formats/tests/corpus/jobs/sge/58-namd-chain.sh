#!/bin/bash
#$ -N prod_01
#$ -cwd -j y
#$ -pe mpi 64
#$ -l h_rt=12:00:00,infiniband
#$ -o prod_01.log
step=${STEP:-1}
charmrun +p$NSLOTS ++nodelist $TMPDIR/machines namd2 prod.$step.conf
rc=$?
# The next one of the chain is submitted by this one.
if [ $rc -eq 0 ] && [ "$step" -lt 20 ]; then
    qsub -N prod_$(printf %02d $((step + 1))) -v STEP=$((step + 1)) "$0"
fi
exit $rc
