#!/bin/ksh
#$ -N stage
#$ -S /bin/ksh
#$ -l tmpfs=50G,h_fsize=20G
#$ -l h_cpu=8:00:00,s_cpu=7:55:00
#$ -notify
#$ -V
back() {
    rsync -a "$TMPDIR"/out/ "$SGE_O_WORKDIR"/out/
    exit 99
}
trap back USR1 USR2
rsync -a "$SGE_O_WORKDIR"/in/ "$TMPDIR"/in/
cd "$TMPDIR" && mkdir out
./simulate in/params out &
wait $!
rsync -a out/ "$SGE_O_WORKDIR"/out/
