#!/bin/bash
#BSUB -w 'post_done(201) || post_err("stage in") || numended(202, *) || numrun(203, <= 2)'
#BSUB -o o
./x
