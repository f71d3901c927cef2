#!/bin/bash
#$ -pe smp 4
#$ -binding set linear:4
#$ -cwd
./pinned
