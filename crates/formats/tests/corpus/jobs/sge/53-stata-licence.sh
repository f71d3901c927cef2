#!/bin/csh -f
#$ -N stata.panel
#$ -cwd
#$ -l stata=1
#$ -l stata_mp=4,h_rt=3:0:0
#$ -pe smp 4
setenv STATATMP $TMPDIR
stata-mp -b do panel.do
if ( $status != 0 ) exit 1
