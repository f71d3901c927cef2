#!/bin/bash
#$ -binding env striding:4:2 -N strided
#$ -binding pe explicit:0,0:0,1
./pinned
