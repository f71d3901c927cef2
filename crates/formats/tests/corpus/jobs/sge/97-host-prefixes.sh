#!/bin/bash
#$ -N places
#$ -o head1:/var/spool/$USER/$JOB_NAME.$HOSTNAME.out
#$ -e :$HOME/err/$JOB_ID
#$ -i :/data/input.dat
./filter
