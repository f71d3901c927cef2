#!/bin/tcsh
#$ -N recon_all
#$ -l h_rt=30:00:00 -l s_rt=29:45:00
#$ -l h_vmem=8G
#$ -t 1-12 -tc 4
#$ -S /bin/tcsh
#$ -v SUBJECTS_DIR=/scans/freesurfer
set subj = `sed -n ${SGE_TASK_ID}p list.txt`
source $FREESURFER_HOME/SetUpFreeSurfer.csh
recon-all -s $subj -i raw/$subj/T1.nii.gz -all
